;; Creates resources of its own endlessly. The host keeps a table of them.
(component
  (type $thing (resource (rep i32)))
  (core func $new (canon resource.new $thing))
  (core module $m
    (import "own" "new" (func $new (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "train") (result i32)
      (loop (drop (call $new (i32.const 7))) (br 0))
      (i32.const 0)))
  (core instance $i (instantiate $m (with "own" (instance (export "new" (func $new))))))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
