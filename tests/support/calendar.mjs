// Reads a calendar on stdin with ical.js, as Thunderbird does, and says in JSON what it has understood:
//   {properties, zones: [tzid], events: [{properties, start, end}]}
// Properties are {name: [{value, parameters}]}; a time is {shown, zone, at}, where `at` comes of the calendar's own
// definition of the zone: ical.js knows no others.
import { text } from "node:stream/consumers";
import ICAL from "ical.js";

const properties = (component) => {
  const found = {};
  for (const property of component.getAllProperties()) {
    const value = String(property.getFirstValue());
    (found[property.name.toUpperCase()] ??= []).push({ value, parameters: property.toJSON()[1] });
  }
  return found;
};

const time = (component, name) => {
  const property = component.getFirstProperty(name);
  const value = property.getFirstValue();
  const zone = property.getFirstParameter("tzid") ?? null;
  if (zone !== null && value.zone.tzid !== zone) throw new Error(`${zone} is not defined`);
  return { shown: value.toString(), zone, at: new Date(value.toUnixTime() * 1000).toISOString() };
};

const calendar = new ICAL.Component(ICAL.parse(await text(process.stdin)));
const events = calendar.getAllSubcomponents("vevent").map((event) => ({
  properties: properties(event),
  start: time(event, "dtstart"),
  end: time(event, "dtend"),
}));
const zones = calendar.getAllSubcomponents("vtimezone").map((zone) => zone.getFirstPropertyValue("tzid"));
process.stdout.write(JSON.stringify({ properties: properties(calendar), zones, events }));
