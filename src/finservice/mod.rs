//! FinService: observe (I/O) → decide (pure) → act (I/O) → status (pure).

pub mod children;
pub mod revision;
#[cfg(test)]
pub mod testing;
