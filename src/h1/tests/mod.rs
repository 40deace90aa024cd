//! Tables of cases for the whole module; the small ones stand beside their functions.
