"""Labels of the abseil-cpp module for Debian's libabsl-dev."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def absl_library(name):
    """Declares one public library of the package.

    Args:
      name: the target's name in the abseil-cpp module.
    """
    cc_library(
        name = name,
        visibility = ["//visibility:public"],
        deps = ["//:shared_libraries"],
    )
