"""Search benchmark in simulated time: recorded learning curves, our search and its peers.

    tables/      what answers instead of training: LCBench, NAS-Bench-Macro, closed forms
    recordings/  recorded trainings of our spaces, and the tables made of them
    data/        data sets of the recordings and of the real searches
    peers/       other methods, and their event loop
    real/        searches by real training
    results/     stored results of all of these

The modules here run the product in simulated time (`ours`, `engine`), measure it and compare.
"""
