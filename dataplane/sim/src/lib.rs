//! A world for the engine: virtual clock, seeded lossy network, and a plain model of what must
//! come out. A failing run prints its seed and can be replayed with it.

pub mod packet;
