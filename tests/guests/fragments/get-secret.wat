;; Imports `get-secret`, lowered with a memory of its own. The text "parked" is at its start.
(import "strongroom:training/secrets@0.1.0" (instance $secrets
    (type $cases (variant
        (case "denied" string) (case "not-found" string) (case "invalid-name" string) (case "invalid-value" string)
        (case "exhausted" string) (case "expired" string) (case "invalid-batch" string) (case "conflict" string)
        (case "partial" (list string)) (case "unavailable" string)))
    (export "error" (type $error (eq $cases)))
    (export "get-secret" (func (param "name" string) (result (result string (error $error)))))))
(core module $libc
    (memory (export "memory") 1)
    (data (i32.const 0) "parked")
    (global $next (mut i32) (i32.const 1024))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
        global.get $next
        (global.set $next
            (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))))
(core instance $libc (instantiate $libc))
(core func $get (canon lower (func $secrets "get-secret")
    (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
