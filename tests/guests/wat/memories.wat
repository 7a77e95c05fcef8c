;; Grows four memories in turn, each within the limit for one memory.
(component
  (core module $m
    (memory $a (export "memory") 1) (memory $b 1) (memory $c 1) (memory $d 1)
    (func (export "train") (result i32)
      (loop
        (drop (memory.grow $a (i32.const 16)))
        (drop (memory.grow $b (i32.const 16)))
        (drop (memory.grow $c (i32.const 16)))
        (drop (memory.grow $d (i32.const 16)))
        (br 0))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
