"""MemoryBank and Queue against plain lists."""

import torch
import torch.nn.functional as F

from coterie.networks.bank import MemoryBank, Queue


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_bank_reads_what_was_written_and_touches_nothing_else():
    bank, new = MemoryBank(unit(10, 4)), unit(3, 4, seed=1)
    before, index = bank.all_ND.clone(), torch.tensor([7, 0, 4])
    bank.write(index, new)
    torch.testing.assert_close(bank.read(index), new)
    others = [i for i in range(10) if i not in (7, 0, 4)]
    assert torch.equal(bank.all_ND[others], before[others])


def test_bank_momentum_is_the_share_of_the_old_row():
    bank, new = MemoryBank(unit(5, 4)), unit(2, 4, seed=1)
    old = bank.read(torch.tensor([1, 3])).double()
    bank.write(torch.tensor([1, 3]), new, momentum=0.5)
    naive = 0.5 * old + 0.5 * new.double()
    torch.testing.assert_close(bank.read(torch.tensor([1, 3])).double(), naive / naive.norm(dim=1, keepdim=True), atol=1e-6, rtol=0)


def test_bank_takes_what_was_proposed_when_it_is_told_to_and_once():
    bank, new = MemoryBank(unit(5, 4)), unit(2, 4, seed=1).requires_grad_()
    before, index = bank.all_ND.clone(), torch.tensor([1, 3])
    bank.propose(index, new, momentum=0.5)
    assert torch.equal(bank.all_ND, before)
    bank.accept()
    written = bank.all_ND.clone()
    assert not torch.equal(written[index], before[index]) and not bank.all_ND.requires_grad
    bank.accept()
    assert torch.equal(bank.all_ND, written)


def test_queue_holds_the_latest_rows():
    queue = Queue(5, 3, torch.Generator().manual_seed(0))
    start, latest, owners = queue.rows_MD.clone(), [], {}
    assert queue.ids_M.tolist() == [-1] * 5, "directions at the start are nobody's"
    torch.testing.assert_close(start.norm(dim=1), torch.ones(5))
    for seed, size in enumerate((2, 2, 3, 4, 7)):
        z = unit(size, 3, seed=seed)
        ids = torch.arange(size) + 10 * seed
        queue.push(ids, z)
        owners |= {tuple(row): int(i) for i, row in zip(ids, z.tolist())}
        assert all(owners.get(tuple(row), -1) == i for row, i in zip(queue.rows_MD.tolist(), queue.ids_M.tolist()))
        latest = [*latest, *z][-5:]
        held = {tuple(row.tolist()) for row in queue.rows_MD}
        assert {tuple(row.tolist()) for row in latest} <= held and len(held) == 5


def test_queue_state_continues_where_it_was():
    one, other = Queue(5, 3, torch.Generator().manual_seed(0)), Queue(5, 3, torch.Generator().manual_seed(9))
    one.push(torch.arange(3), unit(3, 3))
    other.load_state_dict(one.state_dict())
    for queue in (one, other):
        queue.push(torch.arange(4), unit(4, 3, seed=2))
    assert torch.equal(one.rows_MD, other.rows_MD) and torch.equal(one.ids_M, other.ids_M)
