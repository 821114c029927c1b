"""The commands as functions, and the console command `l2keras` that calls them."""
