;; Uses a resource handle that it was not given.
(component
  (import "wasi:io/error@0.2.0" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error-type))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error-type (type $e))
    (export "error" (type $error (eq $e)))
    (type $failure' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $failure (eq $failure')))
    (export "output-stream" (type $out (sub resource)))
    (export "[method]output-stream.check-write"
      (func (param "self" (borrow $out)) (result (result u64 (error $failure)))))))
  (core module $memory (memory (export "memory") 1))
  (core instance $memory (instantiate $memory))
  (core func $check (canon lower (func $streams "[method]output-stream.check-write") (memory (core memory $memory "memory"))))
  (core module $m
    (import "host" "check" (func $check (param i32 i32)))
    (func (export "train") (result i32) (call $check (i32.const 3) (i32.const 64)) (i32.const 0)))
  (core instance $i (instantiate $m (with "host" (instance (export "check" (func $check))))))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $memory "memory"))))
  (export "train" (func $train)))
