//! Bugs that the suite must find, or it proves nothing.
