#pragma once
// The library has one header for three widths of code unit; ours are bytes.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
