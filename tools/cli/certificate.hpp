// SPDX-License-Identifier: Apache-2.0
// hull verify --certificate and hull check.
#pragma once

#include <iostream>
#include <string>

#include <hull/core/deadline.hpp>
#include <hull/io/certificate_file.hpp>
#include <hull/io/check.hpp>
#include <hull/io/file.hpp>
#include <hull/io/onnx.hpp>
#include <hull/io/vnnlib.hpp>

#include "options.hpp"

namespace hull::cli {

/// Writes the proof of an `unsat`, after the checker has gone through it. The verdict does not depend on this: where
/// the time is up before or a leaf cannot be followed, there is no file and a line on stderr says so.
inline void write_certificate(options const& o, io::model const& model, specification const& spec, certificate& proof,
                              deadline const& end) {
  std::string reason = "time is up";
  try {
    auto const report = io::complete_certificate(model, spec, proof, end);
    if (report.valid) {
      io::save_certificate(o.certificate, proof, io::subject_of(model, io::read_file(o.spec)));
      return;
    }
    reason = report.reason;
  } catch (deadline_passed const&) {
  }
  std::cerr << "hull: no certificate was written: " << reason << '\n';
}

/// Prints `valid`, or `invalid: reason`. Exit status 0; throws hull::error if a file cannot be read.
inline int check(options const& o) {
  auto const model = io::load_onnx(o.model);
  auto const text = io::read_file(o.spec);
  auto const spec = io::read_vnnlib(text, o.spec);
  auto const proof = io::load_certificate(o.certificate, io::subject_of(model, text));
  auto const report = io::check_certificate(model, spec, proof);
  if (report.valid) {
    std::cout << "valid\n" << report.leaves << " leaves, " << report.boxes << " boxes\n";
  } else {
    std::cout << "invalid: " << report.reason << '\n';
  }
  std::cout << std::flush;
  return 0;
}

}  // namespace hull::cli
