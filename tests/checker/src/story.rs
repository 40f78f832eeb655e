//! A short way to write histories by hand.
