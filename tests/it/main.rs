//! The one test crate, over the built binary and the library.
