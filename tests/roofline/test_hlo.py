"""What collectives send, read from lines of HLO as a TPU's compiler writes them."""

import pytest

from negot_jax.roofline import hlo

GROUPS = "replica_groups={{0,1,2,3}}"
SENT = {
    "one array": (f"f32[64,8]{{1,0}} all-reduce(%x), {GROUPS}", 2 * 2048 * 3 / 4),
    "several at once": (f"(f32[64,8]{{1,0}}, f32[32]{{0}}) all-reduce(%x, %y), {GROUPS}", 2 * (2048 + 128) * 3 / 4),
    "a gather": (f"bf16[64,8]{{1,0}} all-gather(%x), dimensions={{0}}, {GROUPS}", 1024 * 3 / 4),
    "the start of one": (
        f"(bf16[16,8]{{1,0}}, bf16[64,8]{{1,0}}) all-gather-start(%x), dimensions={{0}}, {GROUPS}",
        1024 * 3 / 4,
    ),
    "the start of two": (
        "((bf16[16,8]{1,0}, f32[4]{0}), (bf16[64,8]{1,0}, f32[16]{0})) all-gather-start(%x, %y), dimensions={0}, "
        + GROUPS,
        (1024 + 64) * 3 / 4,
    ),
    "a shard of a sum": (f"f32[16]{{0}} reduce-scatter(%x), dimensions={{0}}, {GROUPS}", 64 * 4 * 3 / 4),
    "a permutation": (
        "(f32[16]{0}, f32[16]{0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1},{1,0}}",
        64,
    ),
}


@pytest.mark.parametrize("name", SENT)
def test_what_a_device_sends_around_a_ring(name):
    line, sent = SENT[name]
    (operation,) = hlo.collectives(f"HloModule m\n\nENTRY %main (p: f32[1]) -> f32[1] {{\n  %a = {line}\n}}\n")
    assert hlo.sent(operation) == sent
