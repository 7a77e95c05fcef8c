;; Succeeds, then loops forever in the cleanup function.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "train") (result i32) (i32.const 0))
    (func (export "post") (param i32) (loop (br 0))))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory")) (post-return (core func $i "post"))))
  (export "train" (func $train)))
