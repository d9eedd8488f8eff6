//! finservice
