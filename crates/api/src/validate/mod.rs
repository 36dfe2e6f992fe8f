//! Rules that several kinds share, and the field cursor that all validation is written with.
