//! Curves, tables, confusion matrices and the comparison of runs: one HTML file that stands alone, and SVG.
