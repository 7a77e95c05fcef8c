;; Loops forever when the host allocates memory for a result.
(component
  (import "strongroom:training/context@0.1.0" (instance $context
    (export "run-id" (func (result string)))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) (i32.const 0)))
  (core instance $memory (instantiate $memory))
  (core func $run-id (canon lower (func $context "run-id")
    (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
  (core module $m
    (import "host" "run-id" (func $run-id (param i32)))
    (func (export "train") (result i32) (call $run-id (i32.const 0)) (i32.const 0)))
  (core instance $i (instantiate $m (with "host" (instance (export "run-id" (func $run-id))))))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $memory "memory"))))
  (export "train" (func $train)))
