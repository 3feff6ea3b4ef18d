"""Best-of-n selection: expected gold reward for every n, from one sample of N responses."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from rmkit.core.arrays import finite_array, same_shape
from rmkit.core.checks import Verbatim, raise_input_error


def best_of_n(proxy: ArrayLike, gold: ArrayLike, sizes: Sequence[int]) -> NDArray[np.float64]:
    """Expected gold reward [prompt, size] of the best of n responses by the proxy reward.

        sum over i of C(i - 1, n - 1) / C(N, n) * gold of the response whose proxy is the i-th lowest of N

    This is the mean over all subsets of n of the N responses, so it is unbiased for n fresh responses. Responses with
    equal proxy reward are equally likely to be selected.

    `proxy`, `gold`: [prompt, response], reward units; `sizes`: each n, from 1 to N.

    Raises `InputError` for wrong or different shapes, NaN, and an n outside 1 to N.

    Source: Nakano et al., arXiv 2112.09332, Appendix I, as Gao et al., arXiv 2210.10760, use it.
    """
    axes = ("prompt", "response")
    proxies, golds = finite_array("proxy", proxy, axes), finite_array("gold", gold, axes)
    same_shape("gold", golds, "proxy", proxies)
    responses = proxies.shape[1]
    wrong = [size for size in sizes if not 1 <= size <= responses]
    if wrong:
        raise_input_error(
            "sizes", f"numbers from 1 to the {responses} responses", Verbatim(f"{wrong[0]}"), "Draw more responses."
        )
    weights = order_weights(responses, sizes)
    return np.stack([weights @ gold_by_proxy_rank(*row) for row in zip(proxies, golds, strict=True)])


def order_weights(responses: int, sizes: Sequence[int]) -> NDArray[np.float64]:
    """C(i - 1, n - 1) / C(N, n) over [size, i], by logarithms; 0 where i < n."""
    ranks = np.arange(1, responses + 1)[None, :]
    n = np.asarray(sizes)[:, None]
    inside = ranks >= n
    i = np.where(inside, ranks, n)  # any value that gammaln takes, where the weight is 0
    logs = (gammaln(i) - gammaln(n) - gammaln(i - n + 1)
            - gammaln(responses + 1) + gammaln(n + 1) + gammaln(responses - n + 1))
    return np.where(inside, np.exp(logs), 0.0)


def gold_by_proxy_rank(proxy: NDArray[np.float64], gold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gold [response] sorted by the proxy; responses with equal proxy have their mean."""
    order = np.argsort(proxy, kind="stable")
    _, groups = np.unique(proxy[order], return_inverse=True)
    means = np.bincount(groups, weights=gold[order]) / np.bincount(groups)
    return np.asarray(means[groups])
