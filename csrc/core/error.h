// The four kinds of error that the library throws. A message is one sentence:
// the object, the value found, the value expected.
#pragma once

#include <stdexcept>
#include <string>

namespace rwkvcpp {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A file that is damaged, or is not what its name promises.
struct ModelFormatError : Error {
  using Error::Error;
};

/// A file or request that is well formed and that this build cannot serve.
struct UnsupportedError : Error {
  using Error::Error;
};

/// A state that does not fit the model, or that is in use elsewhere.
struct StateError : Error {
  using Error::Error;
};

}  // namespace rwkvcpp
