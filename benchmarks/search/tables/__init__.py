"""Tables that answer a search without training: LCBench, NAS-Bench-Macro and closed forms."""
