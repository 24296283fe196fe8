"""Acts as anybody would write them down: a list of states, one before each act, each a list with a dictionary."""

import copy


def start(cluster_N, k):
    return {
        "cluster": [int(c) for c in cluster_N], "clusters": set(range(k)), "names": {}, "sure": [False] * len(cluster_N), "no": set(),
        "next": k, "past": [], "future": [],
    }  # fmt: skip


def after(state, act):
    """The state after an act that is written out in full."""
    if act["act"] == "undo":
        return _other(state, state["past"][-1], state["past"][:-1], [*state["future"], state])
    if act["act"] == "redo":
        return _other(state, state["future"][-1], [*state["past"], state], state["future"][:-1])
    now = {key: copy.deepcopy(value) for key, value in state.items() if key not in ("past", "future")}
    n = len(now["cluster"])
    if act["act"] == "rename":
        now["names"].pop(act["cluster"], None)
        if act["name"]:
            now["names"][act["cluster"]] = act["name"]
    elif act["act"] == "merge":
        for other in act["clusters"]:
            if other == act["into"]:
                continue
            if act["into"] not in now["names"] and other in now["names"]:
                now["names"][act["into"]] = now["names"][other]
            now["names"].pop(other, None)
            now["clusters"].remove(other)
            now["no"].discard(other)
            now["cluster"] = [act["into"] if c == other else c for c in now["cluster"]]
    elif act["act"] == "split":
        for number, part in zip(act["into"], act["parts"]):
            now["clusters"].add(number)
            now["next"] = max(now["next"], number + 1)
            for i in part:
                now["cluster"][i], now["sure"][i] = number, False
    elif act["act"] == "move":
        if act["cluster"] >= 0 and act["cluster"] == now["next"]:
            now["clusters"].add(act["cluster"])
            now["next"] += 1
        for i in act["ids"]:
            now["cluster"][i], now["sure"][i] = act["cluster"], act["cluster"] >= 0
    elif act["act"] == "not_a_kind":
        now["no"].add(act["cluster"])
    elif "cluster" in act:
        now["no"].discard(act["cluster"])
        now["sure"] = [sure or c == act["cluster"] for sure, c in zip(now["sure"], now["cluster"])]
    else:
        for i in act["ids"]:
            now["sure"][i] = True
    now["sure"] = [now["sure"][i] and now["cluster"][i] >= 0 and now["cluster"][i] not in now["no"] for i in range(n)]
    return now | {"past": [*state["past"], state], "future": []}


def _other(state, there, past, future):
    return there | {"past": past, "future": future, "next": state["next"]}


def drawn(rng, state):
    """An act that can be, drawn by chance, as a person would give it: what may be left open is."""
    kinds, sorted_N = sorted(state["clusters"]), state["cluster"]
    by = {c: [i for i, one in enumerate(sorted_N) if one == c] for c in kinds}
    large = [c for c in kinds if len(by[c]) >= 3]
    can = ["rename", "move", "confirm", "not_a_kind"] + ["merge"] * (len(kinds) > 3) + ["split"] * 2 * bool(large)
    can += ["undo"] * 2 * bool(state["past"]) + ["redo"] * 3 * bool(state["future"])
    act, cluster = str(rng.choice(can)), int(rng.choice(kinds))
    if act == "rename":
        return {"act": act, "cluster": cluster, "name": "" if rng.random() < 0.2 else f"kind {int(rng.integers(10**9))}"}
    if act == "merge":
        return {"act": act, "clusters": [int(c) for c in rng.choice(kinds, int(rng.integers(2, 4)), replace=False)]}
    if act == "split":
        cluster = int(rng.choice(large))
        ids = [int(i) for i in rng.permutation(by[cluster])]
        cut = int(rng.integers(1, len(ids)))
        return {"act": act, "cluster": cluster, "parts": [ids[:cut], ids[cut:]]}
    if act == "move":
        ids = [int(i) for i in rng.choice(len(sorted_N), int(rng.integers(1, 9)), replace=False)]
        return {"act": act, "ids": ids, "cluster": int(rng.choice([-1, state["next"], *kinds]))}
    may = [i for i, c in enumerate(sorted_N) if c >= 0 and c not in state["no"]]
    if act == "confirm" and may and rng.random() < 0.5:
        return {"act": act, "ids": [int(i) for i in rng.choice(may, min(5, len(may)), replace=False)]}
    return {"act": act} if act in ("undo", "redo") else {"act": act, "cluster": cluster}
