//! The real `sipauth` in front of the lab's softswitch.
