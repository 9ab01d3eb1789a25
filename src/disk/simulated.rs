//! The in-memory twin of a disk, for tests.

/// (being written)
#[derive(Debug)]
pub struct SimulatedDisk;

/// (being written)
#[derive(Debug)]
pub struct Cut;
