;; Fails with a text of 200 MiB.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "train") (result i32)
      (if (i32.eq (memory.grow (i32.const 3200)) (i32.const -1)) (then (unreachable)))
      (memory.fill (i32.const 65536) (i32.const 0x78) (i32.const 209715200))
      (i32.store (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (i32.const 65536))
      (i32.store (i32.const 24) (i32.const 209715200))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
