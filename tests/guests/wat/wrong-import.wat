;; Imports a function that a linked interface does not have.
(component
  (import "wasi:cli/environment@0.2.0" (instance (export "set-environment" (func (param "name" string)))))
  (core module $m
    (memory (export "memory") 1)
    (func (export "train") (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
