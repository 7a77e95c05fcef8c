;; Exports an HTTP handler, and nothing that the host calls.
(component
  (import "wasi:io/poll@0.2.0" (instance))
  (core module $m (func (export "handle")))
  (core instance $i (instantiate $m))
  (func $handle (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
