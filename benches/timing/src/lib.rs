//! A statistical test of whether comparisons tell secrets by their time, run by hand.
