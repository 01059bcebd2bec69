//! From events to answers.
