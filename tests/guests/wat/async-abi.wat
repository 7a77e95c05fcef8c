;; Lifts its entry point with the component model's async ABI, which needs WASI 0.3.
(component
  (import "wasi:io/poll@0.2.0" (instance))
  (core module $m
    (func (export "train") (result i32) (i32.const 0))
    (func (export "callback") (param i32 i32 i32) (result i32) (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") async (callback (core func $i "callback"))))
  (export "train" (func $train)))
