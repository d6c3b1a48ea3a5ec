// Persist
