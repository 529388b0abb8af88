/**
 * The capacity of this device.
 *
 * @module device
 */

/** The shorter side of a phone's screen is below this, in CSS pixels. */
const PHONE_PX = 760;
const SMALL_GB = 2;

/** True for a phone, or a device with little memory: it does not keep every open order. */
export function isSmallDevice() {
  const isPhone = matchMedia("(pointer: coarse)").matches && Math.min(screen.width, screen.height) < PHONE_PX;
  return isPhone || (navigator.deviceMemory ?? Infinity) <= SMALL_GB;
}
