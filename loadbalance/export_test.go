package loadbalance

// Raced is raced, for the tests outside of the package.
const Raced = raced
