"""What a compiled program costs: chips, FLOPs by formula, collectives read from HLO, and a roofline estimate."""
