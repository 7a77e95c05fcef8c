;; Exports a `wasi:cli/run` without the function `run`.
(component
  (core module $m (func (export "walk")))
  (core instance $i (instantiate $m))
  (func $walk (canon lift (core func $i "walk")))
  (instance $run (export "walk" (func $walk)))
  (export "wasi:cli/run@0.2.0" (instance $run)))
