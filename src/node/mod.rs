//! The JavaScript surface: argument checking, conversion, error codes, streams. Thin: no arithmetic.
