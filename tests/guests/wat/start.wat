;; Loops forever during instantiation.
(component
  (core module $m
    (func $start (loop (br 0)))
    (start $start)
    (memory (export "memory") 1)
    (func (export "train") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
