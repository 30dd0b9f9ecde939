"""Who talks to whom, over how many wires, and how long it takes."""

import pytest

from transformer.planning.collectives import Wires, exchanges, first_group, wire_bytes, wires
from transformer.planning.counting import Message
from transformer.planning.errors import PlanError
from transformer.planning.topology import Topology


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("all-reduce", 2 * 800 * 3 / 4),
        ("reduce-scatter", 800 * 3 / 4),
        ("all-gather", 800 * 3),
        ("all-to-all", 800 * 3 / 4),
        ("collective-permute", 800),
    ],
)
def test_bytes_sent_by_each_of_four_chips(kind, sent):
    assert wire_bytes(kind, 800, 4) == sent


@pytest.mark.parametrize(
    ("groups", "first"),
    [
        ("replica_groups={{0,2,4,6},{1,3,5,7}}, to_apply=%sum", (0, 2, 4, 6)),
        ("replica_groups={}, to_apply=%sum", tuple(range(16))),
        ("to_apply=%sum", tuple(range(16))),
        ("replica_groups=[8,2]<=[16], to_apply=%sum", (0, 1)),
        ("replica_groups=[4,4]<=[8,2]T(1,0), to_apply=%sum", (0, 2, 4, 6)),
        ("replica_groups=mesh['a'=8,'b'=2] {'b'}, to_apply=%sum", (0, 1)),
        ("replica_groups=mesh['a'=8,'b'=2] {'a'}, to_apply=%sum", tuple(range(0, 16, 2))),
        ("replica_groups=mesh['a'=8,'b'=1,'c'=2] {'a','b'}, to_apply=%sum", tuple(range(0, 16, 2))),
        ("replica_groups=mesh['a'=4,'b'=4], device_ids=([4,4]T(1,0)) {'b'}, to_apply=%sum", (0, 4, 8, 12)),
        ("replica_groups=mesh['a'=16] {'a':(2)2}, to_apply=%sum", (0, 4)),
        ("source_target_pairs={{0,3},{3,0}}, metadata={}", (0, 3)),
    ],
)
def test_groups_in_every_notation(groups, first):
    assert first_group(groups, 16) == first


def test_groups_in_another_notation_are_told():
    with pytest.raises(PlanError, match="not understood: everyone"):
        first_group("replica_groups=everyone", 4)


def grid(*sizes: int) -> list[tuple[int, ...]]:
    if not sizes:
        return [()]
    return [(*rest, place) for rest in grid(*sizes[:-1]) for place in range(sizes[-1])]


@pytest.mark.parametrize(
    ("topology", "coordinates", "expected"),
    [
        # A whole pod is a torus: two rings, 8 hops across each.
        ("v5e:16x16", grid(16, 16), Wires(4, 16)),
        ("v5e:16x16", [(place, 3) for place in range(16)], Wires(2, 8)),
        # Part of a side is no ring, nor is a whole side that is shorter than the pod's.
        ("v5e:16x16", [(place, 3) for place in range(4)], Wires(1, 3)),
        ("v5e:4x4", grid(4, 4), Wires(2, 6)),
        ("v5e:8x16", grid(8, 16), Wires(3, 7 + 8)),
        # A cube's ends are joined.
        ("v5p:4x4x4", grid(4, 4, 4), Wires(6, 6)),
        ("v5p:2x2x2", grid(2, 2, 2), Wires(3, 3)),
        # The two cores of a chip.
        ("v4:2x2x1", [(0, 0, 0), (0, 0, 0)], Wires(1, 1)),
    ],
)
def test_wires_of_a_group(topology, coordinates, expected):
    assert wires(Topology.parse(topology), coordinates) == expected


def test_time_is_that_of_the_bytes_or_of_the_hops():
    topology = Topology.parse("v5e:4x4")
    everyone = "replica_groups={}"
    large = Message(1, "all-reduce", 16 * 10**8, "", everyone, "")
    small = Message(6, "all-reduce", 64, "", everyone, "")
    alone = Message(1, "all-reduce", 10**9, "", "replica_groups=[16,1]<=[16]", "")
    found = exchanges([large, small, alone], topology, grid(4, 4))
    # 2 x 1.6 GB x 15/16 over two wires of 50 GB/s; 6 hops there and 6 back, 6 times.
    assert [each.bytes for each in found] == [3e9, 6 * 2 * 64 * 15 / 16]
    assert [each.seconds for each in found] == pytest.approx([0.03, 6 * 12e-6])


def test_between_slices_the_data_center_network_counts():
    message = Message(2, "all-reduce", 10**9, "", "", "", between_slices=True)
    [found] = exchanges([message], Topology.parse("2xv5e:4x4"), grid(4, 4))
    # 2 x 1 GB x 1/2 over 25 Gbit/s.
    assert (found.network, found.group_size, found.bytes) == ("DCN", 2, 2e9)
    assert found.seconds == pytest.approx(2 * 0.32)
