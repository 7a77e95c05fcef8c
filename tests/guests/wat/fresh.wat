;; Succeeds if memory and grown memory are zero, table entries are empty, and globals have their
;; initial values. Then fills all of them, for the next run to find.
(component
  (core module $m
    (memory (export "memory") 4)
    (table $t 100 funcref)
    (global $g (mut i64) (i64.const 0))
    (func $self (export "train") (result i32)
      (local $at i32) (local $end i32)
      (if (i64.ne (global.get $g) (i64.const 0)) (then (unreachable)))
      (global.set $g (i64.const 0x5ec2e7))
      (if (i32.eq (memory.grow (i32.const 28)) (i32.const -1)) (then (unreachable)))
      (local.set $end (i32.shl (memory.size) (i32.const 16)))
      ;; The result at address 0 is read afterwards, so the first eight bytes stay zero.
      (local.set $at (i32.const 8))
      (loop $bytes
        (if (i64.ne (i64.load (local.get $at)) (i64.const 0)) (then (unreachable)))
        (i64.store (local.get $at) (i64.const 0x5ec2e75ec2e75ec2))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br_if $bytes (i32.lt_u (local.get $at) (local.get $end))))
      (if (i32.eq (table.grow $t (ref.null func) (i32.const 900)) (i32.const -1)) (then (unreachable)))
      (local.set $at (i32.const 0))
      (loop $entries
        (if (i32.eqz (ref.is_null (table.get $t (local.get $at)))) (then (unreachable)))
        (table.set $t (local.get $at) (ref.func $self))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $entries (i32.lt_u (local.get $at) (table.size $t))))
      (i32.const 0)))
  (core instance $i (instantiate $m))
  (func $train (result (result (error string)))
    (canon lift (core func $i "train") (memory (core memory $i "memory"))))
  (export "train" (func $train)))
