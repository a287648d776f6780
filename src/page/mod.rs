//! The pages for people. Pure: each page is a function from data to HTML, and maud escapes all texts.
//!
//! - [`frame`]: what all pages have in common: head, navigation, banners, foot
//! - [`links`]: addresses of pages that keep the namespace and the instant
//! - [`parts`]: the parts that several pages share: states, times, fixes, chips
//! - one module for each page
//!
//! A page is complete without its script. The script (`script.js`) only updates the page while it is open, copies texts and
//! serves the keyboard. Styles are in `css/`, one file for each page.

pub mod about;
pub mod attention;
pub mod chart;
pub mod connection;
pub mod connections;
pub mod csv;
pub mod families;
pub mod frame;
pub mod funnel_picture;
pub mod home;
pub mod ledger;
pub mod links;
pub mod parts;
pub mod policy;
pub mod problems;
pub mod sheet;
pub mod sign_in;
pub mod trend;

pub use frame::{Banner, Frame, Person, Place, content_security_policy, document};
pub use links::Links;
