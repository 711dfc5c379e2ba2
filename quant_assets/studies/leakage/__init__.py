"""The leakage prover: experiments on the whole path of a strategy, each of which names the stage that leaks."""
