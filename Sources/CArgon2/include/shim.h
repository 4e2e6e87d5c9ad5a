// libargon2 (Debian: libargon2-dev). RFC 9106.
#pragma once
#include <argon2.h>
