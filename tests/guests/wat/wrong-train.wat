;; Exports a `train` whose type differs from the contract's.
(component
  (core module $m (func (export "train") (param i32) (result i32) (local.get 0)))
  (core instance $i (instantiate $m))
  (func $train (param "epochs" u32) (result u32) (canon lift (core func $i "train")))
  (export "train" (func $train)))
