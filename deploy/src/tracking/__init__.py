"""The command line, the development stack, and the programs behind them."""
