//! The retry policy over every combination of what it looks at.
