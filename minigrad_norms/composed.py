"""Rules by differentiating a formula of `minigrad_norms.formulas`, composed of elementary primitives.

For what is not fused: forward mode, and the gradients of fused gradients, of any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import minigrad as mg
from minigrad import Primitive, Tensor


def composed_rules(primitive: Primitive, formula: Callable, wants_outputs: bool) -> None:
    """Rules by differentiating the formula as composed of elementary primitives.

    With `wants_outputs` the primitive returns only the outputs that its argument `wants` names.
    """

    def outputs_of(inputs: Sequence[Tensor | None], params: dict) -> tuple:
        arguments = {k: v for k, v in params.items() if k != "wants"}
        result = formula(mg, *inputs, **arguments)
        return result if isinstance(result, tuple) else (result,)

    def of_some(inputs: Sequence[Tensor | None], chosen: list[int], params: dict, keep: list[int]) -> Callable:
        def function(*values: Tensor) -> tuple:
            full = list(inputs)
            for i, value in zip(chosen, values):
                full[i] = value
            outputs = outputs_of(full, params)
            return tuple(outputs[k] for k in keep)

        return function

    def vjp(ct: Any, saved: Any, needs: tuple[bool, ...], **params: Any) -> list:
        inputs = list(saved)[: len(needs)]
        cts = ct if isinstance(ct, tuple) else (ct,)
        wanted = params.get("wants", (True,) * len(cts))
        keep = [k for k, (c, w) in enumerate(zip(cts, wanted)) if w and c is not None]
        chosen = [i for i, need in enumerate(needs) if need]
        _, pull = mg.vjp(of_some(inputs, chosen, params, keep), *[inputs[i] for i in chosen])
        found = dict(zip(chosen, pull(tuple(cts[k] for k in keep))))
        return [found.get(i) for i in range(len(needs))]

    def jvp(tangents: tuple, primals: tuple, outputs: tuple, **params: Any) -> tuple:
        wanted = params.get("wants", (True,) * len(outputs))
        keep = [k for k, w in enumerate(wanted) if w]
        chosen = [i for i, t in enumerate(tangents) if t is not None]
        function = of_some(primals, chosen, params, keep)
        _, pushed = mg.jvp(function, [primals[i] for i in chosen], [tangents[i] for i in chosen])
        found = dict(zip(keep, pushed))
        return tuple(found.get(k) for k in range(len(outputs)))

    primitive.jvp(jvp)
    if wants_outputs:
        primitive.vjp(saves=primitive.inputs)(vjp)
