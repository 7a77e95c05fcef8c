;; Returns a text outside its memory.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "train") (result i32)
      (i32.store (i32.const 16) (i32.const 1))
      (i32.store (i32.const 20) (i32.const 0x7fffff00))
      (i32.store (i32.const 24) (i32.const 0x1000))
      (i32.const 16)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
