;; Grows a table endlessly.
(component
  (core module $m
    (table $t 1 funcref)
    (memory (export "memory") 1)
    (func (export "train") (result i32)
      (loop (drop (table.grow $t (ref.null func) (i32.const 1000))) (br 0))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
