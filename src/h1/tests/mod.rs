//! Tables of cases for the whole module; the small ones stand beside their functions.

mod answer;
mod body;
mod forward;
mod request;
mod response;
