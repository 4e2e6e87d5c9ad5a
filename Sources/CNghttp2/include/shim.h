// nghttp2 1.52 (Debian: libnghttp2-dev), which Debian has given the limits on resets and CONTINUATION frames of later versions.
#pragma once
#include <nghttp2/nghttp2.h>
