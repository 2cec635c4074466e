"""Memory bookkeeping: who has which bytes. Knows neither torch nor time, so the simulator and unit tests run it too."""
