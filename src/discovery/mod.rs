//! Discovery: which rows of the catalog's lists answer a question, in which order, which page of them, and what a
//! volume of usage costs at each offer.
//!
//! The lists were made when the snapshot was (`catalog::Row`); here their facets are compared and put in order. Pure:
//! texts and parsed parameters in, rows or a refusal that names the parameter out. A fact that is not known satisfies
//! no filter: an unknown price is not cheap, an unknown policy not private.

pub mod estimate;
pub mod filter;
pub mod page;
pub mod question;
